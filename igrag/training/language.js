  // The page is written in English; what a reader of Chinese sees instead stands in data-zh.
  const isChinese = navigator.language.toLowerCase().startsWith("zh");
  if (isChinese) {
    document.documentElement.lang = "zh";
    for (const each of document.querySelectorAll("[data-zh]")) each.textContent = each.dataset.zh;
    for (const each of document.querySelectorAll("[data-zh-label]")) {
      each.ariaLabel = each.dataset.zhLabel;
      if (each.placeholder) each.placeholder = each.dataset.zhLabel;
    }
  }
