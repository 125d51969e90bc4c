"""HTTP outside, a plain Matcher inside: the online half of dualtower. Installs and starts without torch."""
