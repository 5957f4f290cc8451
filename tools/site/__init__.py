"""`make report`: an executed study as one HTML site that opens from disk, without a network and without a kernel."""

from tools.site.building import write_site

__all__ = ["write_site"]
