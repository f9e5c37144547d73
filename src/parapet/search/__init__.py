"""The search: NSGA-II with an ask-and-tell interface, the schedule of rounds, feasibility, the front, the session."""
