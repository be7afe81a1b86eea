"""A Django storage that stores through an r2shim proxy. See README.md."""
from r2shim_storage.client import ProxyError
from r2shim_storage.storage import R2shimStorage

__all__ = ["ProxyError", "R2shimStorage"]
