import { createHash } from 'node:crypto'

/*
 * The one stylesheet of all pages, inlined. Text keeps a contrast of 4.5 at least on each ground, in both schemes; a state is
 * never told by its colour alone. Below 60rem a table becomes a list of cards, so that the page never scrolls sideways and no word is broken
 * that has room.
 */
const source = `
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--text:#1b1f26;--soft:#555d6b;--line:#d8dde5;--accent:#1c5bb8;--on:#fff;--ok:#176f3d;--warn:#805300;--bad:#b3261e;--none:#8b93a1;--okbg:#e3f4ea;--warnbg:#fcf0d8;--badbg:#fce8e6;--nonebg:#eceef2;--p2:#a34a00;--p3:#7a2fb0}
@media screen and (prefers-color-scheme:dark){:root{--bg:#101318;--card:#181c23;--text:#e7eaf0;--soft:#a5aebc;--line:#303743;--accent:#86b7ff;--on:#0b1526;--ok:#5fd093;--warn:#f2bd4b;--bad:#ff8f87;--none:#6d7786;--okbg:#12321f;--warnbg:#3a2b0a;--badbg:#431a18;--nonebg:#262c36;--p2:#ffb26b;--p3:#d3a4ff}}
*{box-sizing:border-box}
html{font:100%/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;background:var(--bg);color:var(--text);overflow-wrap:anywhere}
body{margin:0}
a{color:var(--accent)}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:3px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.5rem 1rem;z-index:2}
.in{max-width:72rem;margin:0 auto;padding-inline:1rem}
.top{background:var(--card);border-bottom:1px solid var(--line)}
.top .in{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;align-items:center;padding-block:.6rem}
.brand{font-weight:650;margin-right:auto;color:inherit;text-decoration:none}
.who{display:flex;gap:.75rem;align-items:center;color:var(--soft);font-size:.875rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem;margin:0;padding:0}
nav.main{width:100%}
nav.main a{display:block;padding:.25rem .6rem;border-radius:.4rem;color:var(--soft);text-decoration:none;font-size:.925rem}
nav.main a:hover{background:var(--nonebg)}
nav.main a[aria-current]{background:var(--nonebg);color:var(--text);font-weight:600}
main{padding-block:1.5rem 3rem;display:block}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .35rem}
h2{font-size:1.15rem;margin:2rem 0 .6rem}
h3{font-size:1rem;margin:1.25rem 0 .35rem}
p{margin:.4rem 0;max-width:70ch}
.soft,small{color:var(--soft);font-size:.875rem;font-weight:400}
.num{font-variant-numeric:tabular-nums;text-align:right}
code,pre{font:.875em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.75rem;white-space:pre-wrap;margin:.5rem 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem 1.1rem;margin:0 0 1rem}
.card>:first-child{margin-top:0}
.card>:last-child{margin-bottom:0}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(15rem,100%),1fr));gap:1rem;margin:1rem 0}
.grid .card{margin:0}
nav.range{margin:.75rem 0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(28rem,100%),1fr));gap:1rem;margin:1rem 0}
.plots .card{margin:0}
.wide{grid-template-columns:repeat(auto-fit,minmax(min(22rem,100%),1fr))}
@media(min-width:56rem){.tiles{grid-template-columns:repeat(4,1fr)}}
.tile h2{font-size:.875rem;font-weight:500;color:var(--soft);margin:0}
.tile .big{font-size:1.5rem;font-weight:650;line-height:1.3;margin:.1rem 0}
.banner{max-width:none;border-radius:.6rem;padding:.9rem 1.1rem;margin:0 0 1.25rem;border:1px solid;font-weight:600}
.badge{display:inline-flex;align-items:center;gap:.35em;white-space:nowrap;font-size:.8125rem;font-weight:600;border-radius:1rem;padding:.05rem .6rem}
.badge i{width:.55em;height:.55em;border-radius:50%;background:currentColor}
.ok{color:var(--ok);background:var(--okbg)}
.warn{color:var(--warn);background:var(--warnbg)}
.warn i{border-radius:0;transform:rotate(45deg)}
.bad{color:var(--bad);background:var(--badbg)}
.bad i{border-radius:0}
.none{color:var(--soft);background:var(--nonebg)}
.none i{background:none;border:.12em solid}
table{width:100%;border-collapse:separate;border-spacing:0;background:var(--card);border:1px solid var(--line);border-radius:.6rem;margin:.5rem 0 1rem;font-size:.925rem}
caption{text-align:left;background:var(--bg);color:var(--soft);font-size:.875rem;padding:0 0 .35rem}
th,td{text-align:left;padding:.5rem .75rem;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;white-space:nowrap;color:var(--soft);font-weight:600;font-size:.8125rem}
tbody th{font-weight:600}
time,.whole{white-space:nowrap}
.stack td{min-width:5.5rem}
.stack td:has(code):not(.whole){min-width:10rem}
dl.facts{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.3rem 1.25rem;margin:.5rem 0}
dl.facts dt{color:var(--soft)}
dl.facts dd{margin:0}
form.row,div.row,.acts{display:flex;flex-wrap:wrap;gap:.75rem;align-items:end;margin:.5rem 0}
div.row{align-items:start}
.acts form{margin:0}
label{display:block;font-size:.875rem;font-weight:600}
.field{margin:0 0 .75rem;max-width:32rem;flex:1 1 12rem}
.row .field{margin:0}
.error{display:block;color:var(--bad);font-weight:600;font-size:.875rem;margin:.15rem 0}
.hint{display:block;color:var(--soft);font-weight:400;font-size:.8125rem;margin:.15rem 0 0}
fieldset{border:1px solid var(--line);border-radius:.5rem;padding:.5rem 1rem .75rem;margin:1rem 0}
legend{font-size:.875rem;font-weight:600;padding:0 .35rem}
.ticks{display:grid;grid-template-columns:repeat(auto-fill,minmax(9rem,1fr));gap:.15rem 1rem;margin:.35rem 0 0}
.ticks label{font-weight:400}
blockquote,.said,textarea,.typed{unicode-bidi:plaintext}
.said{white-space:pre-wrap}
blockquote{margin:.25rem 0;padding:.1rem 0 .1rem .75rem;border-left:3px solid var(--line);white-space:pre-wrap}
ol.checks{padding-left:1.25rem}
ol.checks li{margin:0 0 .5rem}
ol.checks form{display:inline-block;margin-left:.5rem}
ol.checks button{padding:.05rem .6rem;font-size:.8125rem}
input,select,textarea,button,.button{font:inherit;color:inherit}
input:not([type=checkbox],[type=radio]),select,textarea{width:100%;padding:.4rem .6rem;background:var(--card);border:1px solid var(--none);border-radius:.4rem}
input[aria-invalid],textarea[aria-invalid],select[aria-invalid]{border:2px solid var(--bad)}
button,.button{display:inline-block;padding:.35rem .9rem;border-radius:.4rem;border:1px solid var(--accent);background:var(--accent);color:var(--on);font-weight:600;cursor:pointer;text-decoration:none;white-space:nowrap}
button.quiet,.button.quiet{background:none;color:var(--accent)}
.button[aria-current]{background:var(--nonebg);color:var(--text);border-color:var(--none)}
td button,td .button{padding:.15rem .6rem;font-size:.875rem}
button.danger{background:var(--bad);border-color:var(--bad)}
button.link{border:0;background:none;color:var(--accent);padding:0;font-weight:400;text-decoration:underline}
.typed{white-space:pre-wrap}
.flash{border:1px solid;border-radius:.5rem;padding:.6rem 1rem;margin:0 0 1rem}
details>summary{cursor:pointer;color:var(--accent);font-size:.875rem}
ol.line{list-style:none;margin:.5rem 0;padding:0 0 0 1rem;border-left:2px solid var(--line)}
ol.line li{margin:0 0 .8rem}
.plot{margin:1rem 0 0}
.plot h2,.plot h3{font-size:1rem;margin:0 0 .5rem}
.plot svg{display:block;width:100%;max-width:44rem;height:auto;overflow:visible}
.plot text{fill:var(--soft);font-size:14px}
.plot .gl{stroke:var(--line);stroke-width:1}
.plot .ln{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.s1{stroke:var(--accent);fill:var(--accent)}
.s2{stroke:var(--p2);fill:var(--p2)}
.s3{stroke:var(--p3);fill:var(--p3)}
.ln.s2{stroke-dasharray:6 3}
.ln.s3{stroke-dasharray:2 4}
.key{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:.35rem 0;font-size:.8125rem;color:var(--soft)}
.key svg{display:inline-block;width:1.8rem;height:.6rem;margin-right:.4rem;vertical-align:middle}
.days{display:block;width:100%;height:2rem}
.days path{fill:none;stroke-width:10;stroke-dasharray:.72 .28}
.days .d-up{stroke-width:6.5;transform:translateY(1.75px)}
.days .d-partial{stroke-width:8.5;transform:translateY(.75px)}
.d-up{stroke:var(--ok)}
.d-partial{stroke:var(--warn)}
.d-down{stroke:var(--bad)}
.d-maintenance{stroke:var(--accent)}
.d-unknown{stroke:var(--line)}
.comp{display:flex;flex-wrap:wrap;justify-content:space-between;align-items:baseline;gap:.25rem 1rem}
.comp h3{margin:.5rem 0 .3rem}
.comp .badge{white-space:normal}
.ends{display:flex;justify-content:space-between;color:var(--soft);font-size:.8125rem}
.vh{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
footer{border-top:1px solid var(--line);color:var(--soft);font-size:.875rem;padding-block:1rem 2rem}
@media(max-width:56rem){.tiles{grid-template-columns:1fr 1fr}}
@media(max-width:60rem){
.whole{white-space:normal}
.stack td,.stack td:has(code):not(.whole){min-width:0}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack,.stack tbody,.stack tr,.stack td,.stack th,.stack caption{display:block}
.stack{border:0;background:none}
.stack tbody{background:var(--card);border:1px solid var(--line);border-radius:.6rem}
.stack tr{padding:.5rem 0;border-top:1px solid var(--line)}
.stack tbody tr:first-child{border-top:0}
.stack td,.stack tbody th{border:0;padding:.15rem .75rem;text-align:left}
.stack td[data-of]{display:grid;grid-template-columns:7.5rem 1fr;gap:.5rem}
.stack td[data-of]::before{content:attr(data-of);color:var(--soft);font-size:.8125rem}
.stack td:has(>span:empty){display:none}
}
@media(max-width:40rem){
.tiles{gap:.75rem}
.tiles .card{padding:.75rem .85rem}
.tile .big{font-size:1.25rem}
.plot text{font-size:21px}
.plot .mid{display:none}
dl.facts{grid-template-columns:1fr;gap:0}
dl.facts dd{margin:0 0 .5rem}
}
@media(prefers-reduced-motion:no-preference){a,button{transition:background-color .12s}}
@media(forced-colors:active){
.badge{border:1px solid}
.badge i{forced-color-adjust:none}
nav.main a[aria-current]{border-bottom:2px solid}
}
@media print{
nav,form,.acts,.unprinted,.skip,.who,details,footer a{display:none!important}
:root{color-scheme:light}
html{font-size:11pt;background:none}
.in{max-width:none;padding-inline:0}
h2,h3,caption{break-after:avoid}
tr,figure,article,blockquote,ol.line li{break-inside:avoid}
}
`

/** The stylesheet without what only the reader of this file needs. */
export const style = source.replaceAll('\n', '')

/** What the content security policy lets through: this stylesheet and no other. */
export const styleHash = `'sha256-${createHash('sha256').update(style).digest('base64')}'`
