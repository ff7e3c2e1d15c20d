"""Tables, plots and the page that shows a prediction."""
