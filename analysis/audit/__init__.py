"""Audits of forget sets: are they easier than they should be, how are fair ones drawn, what risk is left?"""
