"""NSGA-II by ask and tell, the archive, the front, and the processes that do the work."""
