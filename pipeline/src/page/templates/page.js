'use strict';
// Sorting, searching and turning pages of tables, and the theme. The page is whole without it.
(() => {
  const root = document.documentElement;
  const KEY = 'defender-lake-theme';
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const system = () => (dark.matches ? 'dark' : 'light');

  // A page from a file may have no storage: the choice then lasts as long as the page.
  const remembered = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const remember = (theme) => {
    try { if (theme) localStorage.setItem(KEY, theme); else localStorage.removeItem(KEY); } catch { /* as above */ }
  };
  // Before anything is painted.
  if (['light', 'dark'].includes(remembered())) root.dataset.theme = remembered();

  const number = new Intl.NumberFormat('en-US');
  const element = (name, className, ...children) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };

  function theme() {
    const button = document.getElementById('theme');
    const current = () => root.dataset.theme || system();
    const show = () => { button.textContent = current() === 'dark' ? 'Light theme' : 'Dark theme'; };
    button.addEventListener('click', () => {
      const chosen = current() === 'dark' ? 'light' : 'dark';
      // What the system wants is no choice: the page follows it again.
      if (chosen === system()) delete root.dataset.theme; else root.dataset.theme = chosen;
      remember(root.dataset.theme);
      show();
    });
    dark.addEventListener('change', show);
    button.hidden = false;
    show();
  }

  // Makes a button of a column's head; `sort` takes the direction, 1 or -1.
  function sortable(head, sort) {
    const button = element('button', '', ...head.childNodes);
    button.type = 'button';
    head.append(button);
    button.addEventListener('click', () => {
      const was = head.getAttribute('aria-sort');
      const isNumber = head.classList.contains('num');
      const direction = was ? (was === 'ascending' ? -1 : 1) : (isNumber ? -1 : 1);
      for (const other of head.parentNode.children) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', direction === 1 ? 'ascending' : 'descending');
      sort(direction);
    });
  }

  const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

  function sortRows(table) {
    const body = table.tBodies[0];
    const value = (cell) => {
      if (cell.dataset.rank) return -Number(cell.dataset.rank);
      const text = cell.textContent.trim();
      if (text === '–' || text === '(none)') return null;
      return cell.classList.contains('num') ? Number(text.replace(/[, %]/g, '').replace('−', '-')) : text;
    };
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.classList.contains('graph')) return;
      sortable(head, (direction) => {
        const rows = [...body.rows].map((row) => ({ row, value: value(row.cells[column]) }));
        // Nothing comes last, whatever the direction.
        rows.sort((a, b) => {
          if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
          return direction * (typeof a.value === 'number' ? a.value - b.value : collator.compare(a.value, b.value));
        });
        body.append(...rows.map(({ row }) => row));
      });
    });
  }

  const FOLDED = 10;

  // Shows the first rows of a long table until the others are asked for.
  function fold(table) {
    const all = table.tBodies[0].rows.length;
    if (all <= FOLDED + 2) return;
    const button = element('button', 'fold');
    button.type = 'button';
    const show = (isFolded) => {
      table.classList.toggle('folded', isFolded);
      button.setAttribute('aria-expanded', String(!isFolded));
      button.textContent = isFolded ? `Show all ${number.format(all)}` : `Show the first ${FOLDED}`;
    };
    button.addEventListener('click', () => show(!table.classList.contains('folded')));
    table.parentNode.after(button);
    show(true);
  }

  const PAGE = 25;
  const SVG = 'http://www.w3.org/2000/svg';

  function products(article) {
    const source = document.getElementById(article.dataset.products);
    if (!source) return;
    const data = JSON.parse(source.textContent);
    const columns = { name: 0, devices: 1, installations: 2, versions: 3, weaknesses: 4, ended: 5 };
    const table = article.querySelector('table');
    const body = table.tBodies[0];
    const search = article.querySelector('input');
    const status = article.querySelector('[role=status]');
    const [previous, next] = article.querySelectorAll('.turn button');
    // Nothing comes after everything.
    const join = (name) => [...name].reverse().map((part) => part ?? '\uffff').join(' ');
    const texts = data.rows.map(([name, , , , , , detail]) =>
      [...name, ...(detail ? detail[0].map(([version]) => version) : [])].join('\n').toLowerCase());
    let shown = data.rows.map((_, index) => index);
    let sort = null;
    let page = 0;

    const text = (value) => (value === null ? element('i', '', '(none)') : element('bdi', '', value));
    const name = (parts) => {
      const made = element('span', 'name', text(parts[parts.length - 1]));
      for (const part of parts.slice(0, -1)) made.append(' ', element('span', 'of', text(part)));
      return made;
    };
    const list = (title, items, rest) => {
      const made = element('ul', '', ...items.map(([value, devices]) =>
        element('li', '', element('span', '', text(value)), ' ', element('b', '', number.format(devices)))));
      if (rest > 0) made.append(element('li', 'rest', element('span', '', `${number.format(rest)} more version${rest === 1 ? '' : 's'}`)));
      return element('div', '', element('p', '', title), made);
    };
    const distribution = (versions, installations) => {
      const bar = document.createElementNS(SVG, 'svg');
      const all = Math.max(installations, 1, versions.reduce((sum, [, devices]) => sum + devices, 0));
      let from = 0;
      bar.setAttribute('class', 'bar');
      bar.setAttribute('viewBox', '0 0 100 8');
      bar.setAttribute('preserveAspectRatio', 'none');
      bar.setAttribute('aria-hidden', 'true');
      for (const [, devices] of versions) {
        const part = document.createElementNS(SVG, 'rect');
        const width = (100 * devices) / all;
        part.setAttribute('class', 'line');
        part.setAttribute('x', from);
        part.setAttribute('width', width);
        part.setAttribute('height', 8);
        bar.append(part);
        from += width;
      }
      return bar;
    };
    const row = ([parts, devices, installations, versions, weaknesses, ended, detail]) => {
      const head = element('th', '');
      head.scope = 'row';
      if (detail) {
        const [ofVersions, ofPlatforms, ofGroups] = detail;
        const lists = element('div', 'detail', list('Versions', ofVersions, versions - ofVersions.length));
        if (data.platforms.length) lists.append(list('Platforms', ofPlatforms.map(([at, count]) => [data.platforms[at], count])));
        if (data.groups.length) lists.append(list('Groups', ofGroups.map(([at, count]) => [data.groups[at], count])));
        head.append(element('details', '', element('summary', '', name(parts)), lists));
      } else {
        head.append(name(parts));
      }
      const made = element('tr', '', head);
      const count = (value) => made.append(element('td', 'num', number.format(value).replace('-', '−')));
      count(devices);
      count(installations);
      count(versions);
      made.append(element('td', 'graph', ...(detail ? [distribution(detail[0], installations)] : [])));
      if (data.weaknesses) count(weaknesses);
      if (data.support) count(ended);
      return made;
    };
    const show = () => {
      const pages = Math.max(1, Math.ceil(shown.length / PAGE));
      page = Math.min(Math.max(page, 0), pages - 1);
      const from = page * PAGE;
      const rows = shown.slice(from, from + PAGE);
      body.replaceChildren(...rows.map((index) => row(data.rows[index])));
      const of = shown.length === data.rows.length ? '' : ` of ${number.format(data.rows.length)}`;
      const products = `product${data.rows.length === 1 ? '' : 's'}`;
      status.textContent = rows.length
        ? `${number.format(from + 1)} to ${number.format(from + rows.length)} of ${number.format(shown.length)}${of ? ` found${of}` : ''} ${products}`
        : 'No product has these words.';
      previous.disabled = page === 0;
      next.disabled = page === pages - 1;
    };
    const select = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      shown = data.rows.map((_, index) => index).filter((index) => words.every((word) => texts[index].includes(word)));
      if (sort) {
        const { column, direction } = sort;
        const compare = column === 0
          ? (a, b) => collator.compare(join(data.rows[a][0]), join(data.rows[b][0]))
          : (a, b) => data.rows[a][column] - data.rows[b][column];
        shown.sort((a, b) => direction * compare(a, b) || a - b);
      }
      page = 0;
      show();
    };
    for (const head of table.tHead.rows[0].cells) {
      if (head.dataset.sort) {
        sortable(head, (direction) => { sort = { column: columns[head.dataset.sort], direction }; select(); });
      }
    }
    search.addEventListener('input', select);
    previous.addEventListener('click', () => { page -= 1; show(); });
    next.addEventListener('click', () => { page += 1; show(); });
    article.querySelector('.tools').hidden = false;
    article.querySelector('.turn').hidden = false;
    show();
  }

  document.addEventListener('DOMContentLoaded', () => {
    theme();
    for (const table of document.querySelectorAll('table.sortable')) {
      sortRows(table);
      fold(table);
    }
    document.querySelectorAll('[data-products]').forEach(products);
  });
})();
