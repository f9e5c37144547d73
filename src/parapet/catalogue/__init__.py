"""Everything that can be chosen by name, declared once: losses, networks, defences, data sets, quantities, genes.

A declaration is a frozen dataclass with all that other parts of the library need to know of the thing. The thing itself
is named as "module:function" and imported where it is used, so that this package needs neither torch nor numpy and the
command line can list what there is at once.
"""
