"""What a run leaves for people: its folder, plots, report and display."""
