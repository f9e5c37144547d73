"""The search: NSGA-II by ask and tell, the schedule of its rounds, feasibility, the front, and its session."""
