"""Everything that can be chosen by name, declared once: losses, networks, defences, data sets, quantities, genes.

A declaration is a frozen dataclass with what the rest of the library needs to know. The code itself is named as
"module:function" and imported where it is used, so that this package needs neither torch nor numpy and the command line
starts quickly.
"""
