"""The life of one record: saving, pushing, conflicts, history."""
