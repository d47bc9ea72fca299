"""Preference alignment: rewards, rollouts and policy optimisation of a trained generator.

Shapes: B users, G generations of a user's group, L code levels, N items of the catalogue, O objectives of a reward model.
"""
