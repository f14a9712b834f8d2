"""Problems answer what accuracy and cost an assignment has under a condition."""
