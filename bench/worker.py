"""Worker: the process in which a codec runs, for encoding or decoding, sealed before the codec is imported.

Started by `workers.Worker` as `python -m pccbench.bench.worker`, with its standard streams going to a log.  It talks
over two pipes (see `pipe`).  The first message says what to lock itself in with; only then are third-party packages
imported (`session`), and threads that these start are sealed as well.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

from . import kernel, seal
from .pipe import Pipe


def main() -> None:
    """Lock this process in, then serve requests until the parent closes the pipe."""
    requests, replies, parent = (int(argument) for argument in sys.argv[1:4])
    kernel.die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    pipe = Pipe(requests, replies)
    try:
        order, _ = pipe.receive()
        seal.enter(seal.Order.from_dict(order), (requests, replies))
    except EOFError:
        os._exit(1)
    except Exception as error:
        # Whichever of the processes it is: none may go on as if it were sealed.
        traceback.print_exc()
        pipe.send({"event": "error", "kinds": ["SealError"], "text": str(error)})
        os._exit(1)
    pipe.send({"event": "sealed"})

    from .session import Session

    Session(pipe).serve()


if __name__ == "__main__":
    main()
