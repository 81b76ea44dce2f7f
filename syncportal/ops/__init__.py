"""Operating the system: worker supervisor, health, start page, timetable."""
