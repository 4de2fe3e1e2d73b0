// Opens pages of `defender-lake report` in Chromium and checks what a person would: sorting, searching, turning pages,
// the theme, that nothing is asked of the network, that axe has nothing serious to say, that nothing is cut off.
//
// Takes the folder of the tools, then two pages: one with every section filled, one with hostile names.
// Prints a line of JSON a check: its name, and what was wrong if anything. One browser for all.

import { createRequire } from 'node:module';
import { readFileSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [tools, filled, hostile] = process.argv.slice(2);
const require = createRequire(join(resolve(tools), 'node_modules/'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
// Only by hand: pictures to look at.
const pictures = process.env.REPORT_PICTURES;
if (pictures) mkdirSync(pictures, { recursive: true });

const WIDTHS = { phone: 380, desktop: 1600 };
const A4 = { width: 703, height: 1000 };

let failed = 0;
async function check(name, body) {
  let error;
  try { await body(); } catch (thrown) { error = thrown.message; failed += 1; }
  console.log(JSON.stringify({ name, error }));
}
function equal(found, expected, what) {
  const [a, b] = [found, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${what}: expected ${b}, found ${a}`);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});

// Opens a page and keeps what it asks for and says; every check ends with `silent`.
async function open(file, { width = WIDTHS.desktop, theme = 'light', script = true } = {}) {
  const context = await browser.newContext({
    viewport: { width, height: 900 }, colorScheme: theme, javaScriptEnabled: script, reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  const said = [];
  const url = pathToFileURL(file).href;
  page.on('request', (request) => {
    if (request.url().split('#')[0] !== url && !request.url().startsWith('data:')) said.push(`asks for ${request.url()}`);
  });
  page.on('console', (message) => { if (['error', 'warning'].includes(message.type())) said.push(`says ${message.text()}`); });
  page.on('pageerror', (error) => said.push(`fails with ${error.message}`));
  page.on('dialog', (dialog) => { said.push(`shows ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(url);
  return { page, silent: async () => { equal(said, [], 'the page'); await context.close(); } };
}

const products = (page) => page.locator('article.products').first();
const names = (page) => products(page).locator('tbody tr > th .name > bdi:first-child, tbody tr > th .name > i:first-child').allTextContents();
const column = async (page, index) =>
  (await products(page).locator(`tbody tr > td:nth-child(${index})`).allTextContents()).map((text) => Number(text.replaceAll(',', '')));
const heads = (page) => products(page).locator('thead th button');

async function accessible(page, what) {
  // In a world of its own: the page's policy forbids scripts that are not its own.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const serious = violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html} ${failureSummary}`).join(' | ')}`);
  equal(serious, [], `axe about ${what}`);
}

// What is wider than the page, without what scrolls in a place of its own.
const overflowing = (page) => page.evaluate(() => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll('body *')].filter((element) => {
    const { right, width: own } = element.getBoundingClientRect();
    return own > 0 && right > width + 1 && !element.closest('.scroll') && !element.closest('.hidden') && !element.closest('svg');
  });
  return [document.documentElement.scrollWidth > width ? ['the page scrolls sideways'] : [], wide.map((element) => element.outerHTML.slice(0, 80))].flat();
});

await check('figures_stand_in_the_page_as_written', async () => {
  const html = readFileSync(filled, 'utf8');
  const figures = [...html.matchAll(/<data data-figure="([a-z_]+)" value="([0-9.]+)">([^<]+)<\/data>/g)];
  if (figures.length < 5) throw new Error(`${figures.length} figures`);
  for (const [, name, value, shown] of figures) {
    if (name.endsWith('_rate')) {
      // Halves are rounded to even digits there, and up here.
      if (!/^[0-9.]+ %$/.test(shown) || Math.abs(parseFloat(shown) - Number(value) * 100) > 0.0501) throw new Error(`${name}: ${value} as ${shown}`);
    } else {
      equal(shown, Number(value).toLocaleString('en-US'), name);
    }
  }
});

await check('products_are_sorted_by_their_heads', async () => {
  const { page, silent } = await open(filled);
  const head = heads(page).filter({ hasText: /^Devices$/ });
  await head.click();
  const down = await column(page, 2);
  equal(down, [...down].sort((a, b) => b - a), 'devices, most first');
  await head.click();
  const up = await column(page, 2);
  equal(up, [...up].sort((a, b) => a - b), 'devices, fewest first');
  equal(await products(page).locator('thead th[aria-sort]').evaluateAll((heads) => heads.map((head) => head.ariaSort)), ['ascending'], 'aria-sort');
  await heads(page).first().press('Enter');
  const sorted = await names(page);
  const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });
  equal(sorted, [...sorted].sort(collator.compare), 'names by keyboard');
  await silent();
});

await check('other_tables_are_sorted_too', async () => {
  const { page, silent } = await open(filled);
  // Clicks of the page's own: there are dozens of heads.
  const wrong = await page.evaluate(() => [...document.querySelectorAll('table.sortable')].flatMap((table) => {
    const body = table.tBodies[0];
    const rows = body.rows.length;
    return [...table.tHead.querySelectorAll('button')].flatMap((button) => {
      const column = button.parentNode.cellIndex;
      const isNumber = button.parentNode.classList.contains('num');
      const cells = () => [...body.rows].map((row) => row.cells[column].textContent.trim()).filter((text) => text !== '–');
      const numbers = () => cells().map((text) => parseFloat(text.replaceAll(',', '').replace('−', '-')));
      button.click();
      const down = numbers();
      button.click();
      const isSorted = !isNumber || (down.every((value, at) => at === 0 || down[at - 1] >= value) && numbers().every((value, at, all) => at === 0 || all[at - 1] <= value));
      const isOne = table.tHead.querySelectorAll('[aria-sort]').length === 1 && button.parentNode.ariaSort;
      return isSorted && isOne && body.rows.length === rows ? [] : [`${table.caption.textContent}: ${button.textContent}`];
    });
  }));
  equal(wrong, [], 'unsorted');
  if (await page.locator('table.sortable').count() < 3) throw new Error('fewer than three tables');
  await silent();
});

await check('long_tables_are_folded', async () => {
  const { page, silent } = await open(filled);
  const table = await page.locator('table.folded').first().elementHandle();
  const rows = () => table.$$eval('tbody tr', (all) => all.filter((row) => row.checkVisibility()).length);
  equal(await rows(), 10, 'rows at first');
  await page.getByRole('button', { name: /^Show all / }).first().click();
  equal(await rows(), await table.$$eval('tbody tr', (all) => all.length), 'rows after the click');
  equal(await page.getByRole('button', { name: 'Show the first 10' }).getAttribute('aria-expanded'), 'true', 'aria-expanded');
  await page.emulateMedia({ media: 'print' });
  equal(await page.locator('table.folded tbody tr:nth-child(11)').first().isVisible(), true, 'rows on paper');
  await silent();
});

await check('products_are_found_by_words', async () => {
  const { page, silent } = await open(filled);
  const search = page.getByRole('searchbox').first();
  const all = await names(page);
  await search.fill(all[0].toUpperCase());
  const found = await names(page);
  if (!found.includes(all[0]) || found.length > all.length) throw new Error(`${all[0]} found ${found}`);
  await search.fill('no product is called like this');
  equal(await names(page), [], 'products without a match');
  equal(await products(page).getByRole('status').textContent(), 'No product has these words.', 'status');
  await search.fill('');
  equal(await names(page), all, 'products after the search');
  await silent();
});

await check('products_have_pages', async () => {
  const { page, silent } = await open(filled);
  const status = products(page).getByRole('status');
  const total = Number((await status.textContent()).match(/of ([\d,]+) /)[1].replaceAll(',', ''));
  const previous = page.getByRole('button', { name: 'Previous' }).first();
  const next = page.getByRole('button', { name: 'Next' }).first();
  const first = await names(page);
  equal(await previous.isDisabled(), true, 'the first page');
  await next.click();
  const second = await names(page);
  if (second.some((name) => first.includes(name))) throw new Error(`${second} after ${first}`);
  // The others by clicks of the page's own: there are dozens.
  const others = await next.evaluate((button) => {
    let rows = 0;
    while (!button.disabled) {
      button.click();
      rows += button.closest('.products').querySelector('tbody').rows.length;
    }
    return rows;
  });
  equal(first.length + second.length + others, total, 'products of all pages');
  await previous.click();
  equal(await next.isDisabled(), false, 'the last page but one');
  await silent();
});

await check('theme_follows_the_system_and_is_remembered', async () => {
  const { page, silent } = await open(filled, { theme: 'dark' });
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await background();
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await background();
  if (dark === light) throw new Error(`${dark} in both`);
  await page.getByRole('button', { name: 'Dark theme' }).click();
  equal(await background(), dark, 'chosen');
  await page.reload();
  equal(await background(), dark, 'remembered');
  await page.getByRole('button', { name: 'Light theme' }).click();
  await page.emulateMedia({ colorScheme: 'dark' });
  equal(await background(), dark, 'as the system again');
  await silent();
});

await check('keyboard_skips_to_the_figures', async () => {
  const { page, silent } = await open(filled);
  await page.keyboard.press('Tab');
  equal(await page.evaluate(() => document.activeElement.textContent), 'Skip to the figures', 'first focus');
  await page.keyboard.press('Enter');
  equal(new URL(page.url()).hash, '#main', 'where it leads');
  await silent();
});

await check('page_has_one_h1_and_landmarks', async () => {
  const { page, silent } = await open(filled);
  for (const [selector, count] of [['h1', 1], ['main', 1], ['body > header', 1], ['nav[aria-label]', 1], ['footer', 1]]) {
    equal(await page.locator(selector).count(), count, selector);
  }
  equal(await page.locator('table:not(:has(thead th[scope=col]))').count(), 0, 'tables without heads');
  equal(await page.locator('svg:not([role=img]):not([aria-hidden])').count(), 0, 'pictures without a name');
  equal(await page.locator('nav a').evaluateAll((links) => links.filter((link) => !document.querySelector(link.hash)).length), 0, 'links that lead nowhere');
  await silent();
});

for (const theme of ['light', 'dark']) {
  for (const [name, width] of Object.entries(WIDTHS)) {
    await check(`${name}_fits_${theme}`, async () => {
      const { page, silent } = await open(filled, { width, theme });
      equal(await overflowing(page), [], 'overflow');
      await page.evaluate(() => [...document.querySelectorAll('details')].slice(0, 2).concat(...document.querySelectorAll('.products details')).forEach((details) => { details.open = true; }));
      equal(await overflowing(page), [], 'overflow with numbers and products open');
      // A theme once: it takes seconds.
      if ((theme === 'light') === (name === 'desktop')) await accessible(page, `${name}, ${theme}`);
      if (pictures) await page.screenshot({ path: join(pictures, `${name}-${theme}.png`), fullPage: true });
      await silent();
    });
  }
}

await check('paper_is_not_cut', async () => {
  const { page, silent } = await open(filled, { width: A4.width });
  await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
  const wide = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    return [...document.querySelectorAll('table, figure')]
      .filter((element) => element.getBoundingClientRect().right > width + 1)
      .map((element) => element.textContent.trim().slice(0, 60));
  });
  equal(wide, [], 'what is wider than the paper');
  equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(255, 255, 255)', 'paper');
  const pdf = await page.pdf({ format: 'A4', preferCSSPageSize: true, path: pictures && join(pictures, 'page.pdf') });
  equal(pdf.subarray(0, 5).toString(), '%PDF-', 'the PDF');
  await silent();
});

await check('page_is_whole_without_its_script', async () => {
  const { page, silent } = await open(filled, { script: false });
  equal(await page.getByRole('searchbox').count(), 0, 'search');
  equal(await page.locator('button:visible').count(), 0, 'buttons');
  const rows = await products(page).locator('tbody tr').count();
  if (rows === 0) throw new Error('no products');
  equal(await overflowing(page), [], 'overflow');
  await silent();
});

await check('hostile_names_stay_text', async () => {
  for (const width of Object.values(WIDTHS)) {
    const { page, silent } = await open(hostile, { width });
    const all = await names(page);
    for (const name of ['</script><script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "'><svg/onload=alert(1)>", '&lt;b&gt;', '<!--', 'x'.repeat(500)]) {
      if (!all.includes(name)) throw new Error(`${name} is missing among ${JSON.stringify(all)}`);
    }
    const bidi = all.find((name) => name.startsWith('abc'));
    equal(bidi, 'abc\\u{202e}gpj.exe', 'a name that turns around');
    equal(await page.locator('img, iframe, object, embed, a[href^="javascript:"]').count(), 0, 'elements from names');
    equal(await page.locator('script').count(), 1 + await page.locator('script[type="application/json"]').count(), 'scripts');
    equal(await overflowing(page), [], `overflow at ${width}`);
    await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
    equal(await overflowing(page), [], `overflow at ${width} with everything open`);
    await page.getByRole('searchbox').first().fill('<script>');
    equal((await names(page)).length, 1, 'found by its text');
    if (width === WIDTHS.desktop) await accessible(page, 'hostile names');
    await silent();
  }
});

await browser.close();
process.exit(failed ? 1 : 0);
