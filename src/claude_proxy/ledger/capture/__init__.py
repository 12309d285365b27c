"""Stores the bodies of Messages calls if asked to: redacted, each block once, in a file of its own (`capture.db`).

    tap         on the path: keeps references to the bytes of one exchange
    capture     the listener: bounds what is kept in flight, and hands finished exchanges on
    worker      the thread that does the rest, and loses what it cannot keep up with
    preparing   a finished exchange as a chain of pieces: `cutting` for the request, `assembling` for the answer, `redacting` both
    store       the pieces in SQLite, each once; `retention` takes them out again
    reading     `Conversations`: what was kept, as blocks

Imported only where CAPTURE is not off, or where somebody reads.
"""

from claude_proxy.ledger.capture.capture import Capture
from claude_proxy.ledger.capture.options import CaptureOptions

__all__ = ["Capture", "CaptureOptions"]
