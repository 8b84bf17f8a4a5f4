"""yesno: two Hebrew words."""
