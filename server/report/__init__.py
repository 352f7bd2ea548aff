"""What a run leaves for people: its folder, figures, report and display."""
