"""The column names of a state. A module of its own, so that acting does not need MuJoCo."""

CHANNELS = ("x", "theta", "v", "omega")
"""Cart position m, pole angle rad, cart velocity m/s, pole rate rad/s: the order of every state `(..., S)`."""
