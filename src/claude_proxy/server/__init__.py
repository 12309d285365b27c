"""Our own server: uvicorn with a hardened protocol, an end that loses nothing, and several workers if asked."""

from .options import ServerOptions, notes_on
from .run import run

__all__ = ["ServerOptions", "notes_on", "run"]
