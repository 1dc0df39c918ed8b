"""Looks into trained soft prompts, shortens them, and averages them."""
