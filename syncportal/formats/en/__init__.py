"""English, with dates that sort and a 24-hour clock."""
