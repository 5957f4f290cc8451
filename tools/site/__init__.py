"""`make site`: an executed study as a folder of HTML pages that open from disk, without a network and without a kernel.

notebooks.py lists what stands on a page, pages.py makes it HTML with pandoc, checks.py holds the laws of the site, and
building.py writes all pages at once.
"""
