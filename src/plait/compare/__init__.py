"""Which fusion, when: all of them at equal data, updates and size, in closed loop; and what each of them costs."""
