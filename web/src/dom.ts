// SPDX-License-Identifier: Apache-2.0
// Elements without a framework. Texts go in as text, never as HTML.

type Child = Node | string;

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found as T;
}

/** An element: `make('td', {class: 'number'}, '12')`. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Record<string, string> = {}, ...children: Child[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function makeSvg(tag: string, attributes: Record<string, string | number>): SVGElement {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}

/** Changes only what is different: a screen reader and a selection are left alone. */
export function setText(element: Element, text: string) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** A table with headings; those that begin with # are of columns of numbers. */
export function makeTable(label: string, headings: string[]): {wrap: HTMLElement; body: HTMLTableSectionElement} {
  const row = make('tr');
  for (const heading of headings)
    row.append(make('th', heading.startsWith('#') ? {scope: 'col', class: 'number'} : {scope: 'col'},
                    heading.replace('#', '')));
  const body = make('tbody');
  // What is wider than the window scrolls by itself, also by keyboard.
  const wrap = make('div', {class: 'scroll-x', tabindex: '0', role: 'region', 'aria-label': label},
                    make('table', {}, make('thead', {}, row), body));
  return {wrap, body};
}

/** Elements by key in an order, made once and kept: focus stays where it is. */
export class Keyed<View extends {element: Element}, Data> {
  private readonly views = new Map<string, View>();

  constructor(private readonly parent: Element, private readonly create: (data: Data) => View,
              private readonly update: (view: View, data: Data) => void) {}

  show(list: Data[], key: (data: Data) => string) {
    const seen = new Set<string>();
    let before: Element | null = null;
    for (const data of list) {
      const name = key(data);
      seen.add(name);
      let view = this.views.get(name);
      if (!view) {
        view = this.create(data);
        this.views.set(name, view);
      }
      const place: Element | null = before === null ? this.parent.firstElementChild : before.nextElementSibling;
      if (place !== view.element) this.parent.insertBefore(view.element, place);
      before = view.element;
      this.update(view, data);
    }
    for (const [name, view] of this.views)
      if (!seen.has(name)) {
        view.element.remove();
        this.views.delete(name);
      }
  }
}
