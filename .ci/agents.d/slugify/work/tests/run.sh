[ "$(sh slugify.sh 'One Two')" = one-two ]
