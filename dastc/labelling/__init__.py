"""Labels for clips that have none: a teacher, what it takes for granted, and how much it is believed."""
