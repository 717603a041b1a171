"""The link between coordinator and jobs: Flower messages over one gRPC stream per site."""
