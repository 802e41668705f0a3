"""What libraries do to what a command says: their logs in one line each, and no interruption lost in them."""

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SOON = 0.05  # seconds: until the callback that swallowed an interruption is over


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = record.stack_info = None
        record.msg, record.args = record.getMessage().split("\n", 1)[0][:300], ()
        return True


class _Raised(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "exception was never retrieved" not in str(record.msg)


def keep_to_one_line() -> None:
    """Orbax logs the traceback of an error that it raises too, through absl's logger, and gcsfs through its own; where
    several arrays cannot be written, asyncio tells of those whose errors nobody asked for, after the first was raised.
    """
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    logging.getLogger("absl").addFilter(_OneLine())
    logging.getLogger("asyncio").addFilter(_Raised())


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C that arrives in a callback of the garbage collector (jax has one) or a finaliser is printed by Python and
    forgotten there: within the block it comes again.
    """
    heard = sys.unraisablehook

    def hook(ignored: Any) -> None:
        if ignored.exc_type is KeyboardInterrupt:
            main = threading.main_thread().ident
            assert main is not None
            threading.Timer(_SOON, signal.pthread_kill, (main, signal.SIGINT)).start()
        else:
            heard(ignored)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = heard
