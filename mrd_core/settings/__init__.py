"""Configurations, their options, and the settings of the installation."""
