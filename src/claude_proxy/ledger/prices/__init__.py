"""What exchanges cost: list prices in nano-dollars, plan credits in micro-credits, and the provider's own quota."""

from claude_proxy.ledger.prices.priced import Priced, Provenance
from claude_proxy.ledger.prices.read import Loaded, PriceFileError, load, user_file
from claude_proxy.ledger.prices.table import Prices

__all__ = ["Loaded", "PriceFileError", "Priced", "Prices", "Provenance", "load", "user_file"]
