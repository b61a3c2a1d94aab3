"""What every floor above stands on: argument checks and the debug switch. Private."""
