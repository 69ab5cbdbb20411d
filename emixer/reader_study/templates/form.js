// The rating of one pair: rows of ten buttons, a guess, a comment; one row is marked for the digit keys.
class Form {
  constructor(form, onChange) {
    this.form = form;
    this.rows = [...form.querySelectorAll("[data-scale]")];
    this.comment = form.elements.comment;
    form.addEventListener("input", () => {
      this.unmarkMissing();
      onChange();
    });
    form.addEventListener("change", (event) => {
      const row = event.target.closest("[data-scale]");
      if (row && event.isTrusted) this.mark(row);
    });
    this.onChange = onChange;
  }

  fill(rating) {
    this.form.reset();
    for (const [name, value] of Object.entries(rating ?? {})) this.form.elements[name].value = value;
    this.unmarkMissing();
    this.markOpen();
  }

  // the fields that are set; a whole rating once complete
  value() {
    const rating = { comment: this.comment.value.trim() };
    for (const row of this.rows) {
      const name = row.dataset.scale;
      const value = this.form.elements[name].value;
      if (value) rating[name] = name === "guess" ? value : Number(value);
    }
    return rating;
  }

  missing() {
    return this.rows.filter((row) => !this.form.elements[row.dataset.scale].value);
  }

  showMissing() {
    for (const row of this.missing()) row.classList.add("missing");
    this.markOpen();
  }

  unmarkMissing() {
    for (const row of this.rows) row.classList.remove("missing");
  }

  get marked() {
    return this.rows.find((row) => row.classList.contains("active"));
  }

  mark(row) {
    for (const each of this.rows) each.classList.toggle("active", each === row);
  }

  markOpen() {
    this.mark(this.missing()[0] ?? this.rows[0]);
  }

  markBeside(step) {
    const index = this.rows.indexOf(this.marked) + step;
    this.mark(this.rows[Math.min(this.rows.length - 1, Math.max(0, index))]);
  }

  set(name, value) {
    this.form.elements[name].value = value;
    this.unmarkMissing();
    this.onChange();
    this.mark(this.missing()[0] ?? this.rows.find((row) => row.dataset.scale === name));
  }

  score(digit) {
    const name = this.marked.dataset.scale;
    if (name !== "guess") this.set(name, digit || 10);
  }
}
