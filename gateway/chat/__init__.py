"""`wakeful chat`: a conversation in the terminal, over our own client."""
