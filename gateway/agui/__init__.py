"""AG-UI: the one image of every event, and the streams, inputs and state that its front ends use."""
