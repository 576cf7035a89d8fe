# Prints its argument as the README says.
printf '%s\n' "$1"
