"""Background recorders: console, system metrics, git, surroundings."""
