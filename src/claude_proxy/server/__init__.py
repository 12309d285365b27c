"""Our own server: uvicorn with a hardened protocol, an end that loses nothing, and several workers if asked."""

from .options import OptionError, ServerOptions
from .run import run

__all__ = ["OptionError", "ServerOptions", "run"]
