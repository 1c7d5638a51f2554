"""Every advantage estimator, filter, clip rule, loss term, schedule and controller, once, as functions of tensors."""
