"""What the numbers of a state are called where they have names. Apart, so that acting does not need MuJoCo."""

CHANNELS = ("x", "theta", "v", "omega")
"""Cart position m, pole angle rad, cart velocity m/s, pole rate rad/s: the order of every state `(..., S)`."""
