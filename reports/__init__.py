"""Tables, plots, the HTML page and comparisons: pure functions over data frames of rows."""
