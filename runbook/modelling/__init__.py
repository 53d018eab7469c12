"""The data set, the training and the decision: what 20_train and 30_evaluate call."""
