"""The server behind `serve`: uvicorn with a hardened protocol, a graceful shutdown, and optionally several workers."""

from .options import ServerOptions, notes_on
from .run import run

__all__ = ["ServerOptions", "notes_on", "run"]
