"""What a run has made in the forms that others expect; one module for each form."""
