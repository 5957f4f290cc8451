"""What somebody with pictures of their own needs: a recommendation, predictions, and a model to take away."""
