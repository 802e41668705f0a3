"""The paper's tables and figures as one command: what is missing is trained, all is scored, its figures beside ours."""
