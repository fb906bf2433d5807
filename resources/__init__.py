"""The outside world: settings, the contract, OAuth, the API, the warehouse file. No decisions about time or shape (those are `pipelines`)."""
