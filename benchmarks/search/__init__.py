"""Is a search with fidelities and warm starts worth it? A table of real trainings, replays of it, and live runs."""
