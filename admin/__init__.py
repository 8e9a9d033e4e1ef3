"""The control plane: what people and programs change the gateway's connectors, keys and plans with."""
