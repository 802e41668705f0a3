"""What libraries log while a command runs: one line each, since their errors reach the user as a line of ours."""

import logging


class _OneLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = record.stack_info = None
        record.msg, record.args = record.getMessage().split("\n", 1)[0][:300], ()
        return True


def keep_to_one_line() -> None:
    """Orbax logs the traceback of an error that it raises too; both come through absl's logger."""
    logging.getLogger("absl").addFilter(_OneLine())
