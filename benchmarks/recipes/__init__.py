"""Named recipes trained with several seeds and attacked on the test split: the table of accuracies."""
