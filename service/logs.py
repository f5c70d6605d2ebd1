"""What is logged, and how a line looks. The server's own lines are BentoML's to format."""

import logging

FORMAT = "%(asctime)s [%(levelname)s] [%(name)s:%(process)d] %(message)s"


def configure_logging(level: str) -> None:
    """Send the lines of this project, from `level` on, to standard error."""
    logger = logging.getLogger("headstart")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    # What no line shows is not looked up: where in the code it was logged, and by which thread.
    logging._srcfile = None
    logging.logThreads = logging.logMultiprocessing = False
    # It warns of every malformed form, which the client is told anyway.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
